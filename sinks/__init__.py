"""Kafka -> the outside: one package a destination."""
