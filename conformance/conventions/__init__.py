"""Room 6, what a backend does, and how one is made to do what another does."""
