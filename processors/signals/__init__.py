"""Flash crashes and news that moved a price, seen in trades and in the scores of articles -> signals."""
