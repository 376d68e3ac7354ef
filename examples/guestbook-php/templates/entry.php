<?php
/** @var \Guestbook\View $this */
/** @var array<string, mixed> $message */
?>
      <article class="message">
        <header>
          <span class="avatar hue-<?= $this->hue($message['author']) ?>" aria-hidden="true"><?= $this->e($this->initial($message['author'])) ?></span>
          <div>
            <b><?= $this->e($message['author']) ?></b>
            <a href="/messages/<?= (int) $message['id'] ?>"><time datetime="<?= $this->isoTime($message['created_at']) ?>"><?= $this->e(substr($message['created_at'], 0, 16)) ?> UTC</time></a>
          </div>
        </header>
        <p class="body"><?= $this->e($message['body']) ?></p>
<?php if ($message['picture'] !== null): ?>
        <a href="/uploads/<?= $this->e($message['picture']) ?>"><img class="picture" src="/uploads/<?= $this->e($message['picture']) ?>" alt="Picture by <?= $this->e($message['author']) ?>" loading="lazy"></a>
<?php endif ?>
      </article>
