"""Room 2, the data: number formats, exact and hostile families, sizes, layouts; drawing and shrinking cases."""
