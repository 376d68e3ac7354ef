"""What the application server imports: `guestbook.wsgi:application`."""

import os

from guestbook import create_app
from guestbook.settings import Settings

application = create_app(Settings.from_environment(os.environ))
