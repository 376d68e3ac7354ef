<?php

declare(strict_types=1);

namespace Guestbook;

/** Names with passwords. A name belongs to the first who logs in with it. */
final class Users
{
    public function __construct(private readonly Database $database)
    {
    }

    /** The name to be logged in with. */
    public function logIn(string $name, string $password): string
    {
        $name = Text::clean($name, 60, 'Your name');
        if (strlen($password) < 8 || strlen($password) > 200) {
            throw new Invalid('A password has 8 to 200 characters.');
        }
        $find = fn (): ?string => $this->database->readCurrent(
            'SELECT password_hash FROM users WHERE name = ?',
            $name,
        )[0]['password_hash'] ?? null;

        $known = $find();
        if ($known === null) {
            $this->database->write(
                'INSERT INTO users (name, password_hash) VALUES (?, ?)',
                $name,
                password_hash($password, PASSWORD_DEFAULT),
            );
            $known = $find(); // of two who came at the same moment, one was first
        }
        if (!password_verify($password, (string) $known)) {
            throw new Invalid('This name is taken and the password is not the right one.');
        }

        return $name;
    }
}
