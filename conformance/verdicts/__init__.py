"""Room 5, which rules explain what was seen: verdicts, grades of precision, and which claim to read first."""
