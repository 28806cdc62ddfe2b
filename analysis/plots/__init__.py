"""A run's figures: by Plotly for the page, by Matplotlib as PNG files, as text in the terminal."""
