"""A run's pictures: for the page by Plotly, as PNG files by Matplotlib, in the terminal."""
