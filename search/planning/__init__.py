"""What a search will take, and how many trials run at once, found out before it begins."""
