"""How a release's document names what only the machine knows. `machine.py` has the same two (it stands
alone)."""

SECRET = "__lampstand_secret_%s__"
"""A generated secret (`database_app`) or the value of a variable of `app.secrets` (`env.STRIPE_KEY`)."""
VALUE = "__lampstand_value_%s__"
"""An address (`database_host`), the site's URL (`url`), the machine's id (`server`)."""
