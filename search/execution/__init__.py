"""Ray Tune's side of a search. These classes translate, and decide nothing."""
