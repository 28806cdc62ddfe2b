"""torch: data, models, costs and the training loop. Only trial.py uses Ray."""

import os

# Threads of torch that wait for each other spin for a while before they sleep, by default for
# milliseconds. Where other programs want the cores too, they then wait for a thread that can't run
# because of them: an epoch took 40 s instead of 5 beside ten busy processes. torch reads this when
# it is first imported.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
