"""Figures as Vega-Lite specifications, drawn from the tables alone, each with the table it was drawn from."""
