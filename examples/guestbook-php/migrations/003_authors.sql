-- Filled by bin/worker.php after each message: how much each author has written.
CREATE TABLE IF NOT EXISTS authors (
  author VARCHAR(60) NOT NULL PRIMARY KEY,
  messages INT UNSIGNED NOT NULL,
  last_at DATETIME(3) NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci;
