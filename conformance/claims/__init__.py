"""Room 1, what is claimed: the claims and their rivals, in English, Chinese and formulas; the article's errata."""
