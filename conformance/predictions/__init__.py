"""Room 3, what must come out, and how exactly: the value of every result under any rules, and its error bound."""
