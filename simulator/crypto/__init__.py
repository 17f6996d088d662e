"""The crypto venue: pairs traded around the clock, with order books, and bars that know quotes too."""
