"""Ray Tune's side of a search: these classes translate, and decide nothing."""
