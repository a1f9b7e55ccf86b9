"""Senders on the Hugging Face hub: one file and a card. What is loaded from there runs nothing."""

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from precomp_sdk.errors import CheckpointError, MissingDependencyError, reason_of

if TYPE_CHECKING:
    from precomp_sdk.deploy.compressor import Compressor

__all__ = ["CARD_FILE", "SENDER_FILE_ON_HUB", "find_on_hub", "push", "write_hub_folder"]

SENDER_FILE_ON_HUB: Final = "sender.safetensors"  #: of a repository: what `Compressor.save` writes
CARD_FILE: Final = "README.md"  #: the card that the hub shows
_TAGS: Final = ("precomp-sdk", "image-compression", "preprocessing")


def find_on_hub(
    repo: str | Path, *, revision: str | None = None, cache: Path | str | None = None, offline: bool = False
) -> Path:
    """Return the sender's file of a repository, from the hub's cache or downloaded into it; or of a local folder.

    Args:
        repo: ``"user/repo"``, or a folder with the files of a repository.
        revision: a branch, a tag or a commit; None: the main branch. A commit is what never changes.
        cache: folder of the hub's cache; None: its own.
        offline: look into the cache alone.

    Raises:
        CheckpointError: there is no such repository, revision or file, or no way to it.
        MissingDependencyError: huggingface_hub is not installed.
    """
    if Path(repo).is_dir():
        return Path(repo) / SENDER_FILE_ON_HUB
    hub = _hub()
    try:
        found = hub.hf_hub_download(
            str(repo), SENDER_FILE_ON_HUB, revision=revision, cache_dir=cache, local_files_only=offline
        )
    except Exception as error:  # of its network library, too
        raise CheckpointError(
            where=f"hub, {repo}" + (f" at {revision}" if revision else ""),
            expected=f"a repository with {SENDER_FILE_ON_HUB}, as push_to_hub makes it",
            got=reason_of(error),
            remedy="Look at the name, and log in (hf auth login) where it is private.",
        ) from error
    return Path(found)


def write_hub_folder(compressor: "Compressor", folder: Path) -> None:
    """Write the files of a repository: the sender and its card.

    Raises:
        CheckpointError: the preprocessor works with more than its file holds.
    """
    needed = compressor.preprocessor.requires
    if needed:
        raise CheckpointError(
            where=f"hub, preprocessor {compressor.preprocessor.name!r}",
            expected="one whose file says all there is",
            got=f"one that works with its {' and '.join(needed)}",
            remedy="Share the run's folder instead, or train 'qa-free' or 'qa-smooth', which have guides of their own.",
        )
    compressor.save(folder / SENDER_FILE_ON_HUB)
    (folder / CARD_FILE).write_text(_card(compressor), encoding="utf-8")


def push(
    compressor: "Compressor", repo: str, *, private: bool = False, message: str = "A sender", api: Any = None
) -> str:
    """Write a sender to a repository, which is made where it is not there; return the address of the commit.

    Args:
        compressor: what is shared.
        repo: ``"user/repo"``.
        private: of a new repository.
        message: of the commit.
        api: an ``HfApi``, with a token of its own; None: one with the user's.

    Raises:
        CheckpointError: as `write_hub_folder` raises it; or the hub refused it.
        MissingDependencyError: huggingface_hub is not installed.
    """
    with TemporaryDirectory() as folder:
        write_hub_folder(compressor, Path(folder))
        api = _hub().HfApi() if api is None else api
        return _refused(repo, lambda: _upload(api, repo, folder, private, message))


def _upload(api: Any, repo: str, folder: str, private: bool, message: str) -> str:
    api.create_repo(repo, private=private, exist_ok=True)
    return str(api.upload_folder(repo_id=repo, folder_path=folder, commit_message=message))


def _refused(repo: str, call: Callable[[], str]) -> str:
    try:
        return call()
    except Exception as error:  # of its network library, too
        raise CheckpointError(
            where=f"hub, {repo}",
            expected="a repository that may be written to",
            got=reason_of(error),
            remedy="Log in with a token that may write (hf auth login), and look at the name.",
        ) from error


def _card(compressor: "Compressor") -> str:
    """Return the card: what the sender is, how it is used, and its facts."""
    tags = "\n".join(f"- {tag}" for tag in (*_TAGS, compressor.codec.name))
    chooser = "" if compressor.chooser is None else ", quality and resolution chosen for each image"
    facts = {key: value for key, value in compressor.facts.items() if key != "chooser"}
    scale = compressor.codec.quality_scale.name
    ends = sorted(compressor.ladder)
    quality = ends[len(ends) // 2]
    return f"""---
library_name: precomp-sdk
tags:
{tags}
---

# A sender for {compressor.codec.name}

Preprocessor `{compressor.preprocessor.name}` in front of `{compressor.codec.name}`{chooser}.
What it sends is an ordinary {compressor.codec.name} file.

```python
from precomp_sdk import Compressor

sender = Compressor.from_pretrained("USER/REPO")
payload = sender.compress("photo.jpg", {quality:g})  # {scale}, {ends[0]:g} to {ends[-1]:g}
```

```json
{json.dumps(facts, indent=1, default=str)}
```
"""


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise MissingDependencyError(
            where="the hub",
            expected="the package huggingface_hub",
            got="no such package",
            remedy="pip install 'precomp-sdk[hub]'",
        ) from error
    return huggingface_hub
