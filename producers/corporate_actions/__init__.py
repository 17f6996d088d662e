"""Alpaca's announcements of splits, dividends and the like -> alpaca.corporate-actions."""
