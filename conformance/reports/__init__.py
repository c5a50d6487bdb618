"""Room 7, what people and programs read: terminal, results.json, merged matrix, pages, plots, scripts."""
