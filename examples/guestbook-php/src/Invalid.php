<?php

declare(strict_types=1);

namespace Guestbook;

/** What the visitor sent cannot be taken; the message is for the visitor, the code is the HTTP status. */
final class Invalid extends \DomainException
{
    public function __construct(string $message, int $status = 422)
    {
        parent::__construct($message, $status);
    }
}
