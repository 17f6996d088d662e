"""RSS and Atom feeds -> alpaca.news: a second source of news, compared with Alpaca's."""
