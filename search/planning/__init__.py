"""Before a search: estimates what it will take, and decides how many trials run at once."""
