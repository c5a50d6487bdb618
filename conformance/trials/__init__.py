"""Room 4, what is done with a case: the operations, and how an adapter is opened and called, in its own process."""
