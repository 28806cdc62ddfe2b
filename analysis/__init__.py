"""Reads results: fronts, choices and pictures. numpy, pandas, pyarrow and matplotlib."""
