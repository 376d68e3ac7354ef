<?php

declare(strict_types=1);

namespace Guestbook;

/** A server behind the application does not answer; the visitor gets 503 and may try again. */
final class Unavailable extends \RuntimeException
{
}
