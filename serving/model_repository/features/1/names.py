"""By which names a version knows its users: as they are, or by pseudonyms of one key (docs/privacy.md).

A name of the other kind would find nobody and be answered like a newcomer, in silence; so it is refused.
"""

import re

from recommend_request import RequestError

PSEUDONYM = re.compile(r"psn_([0-9a-f]{8})_[a-z2-7]{32}")
NO_USER = "\x00"
"""What the name of nobody begins with; no data set can hold it."""


def check_names(user_ids, fingerprint):
    """Refuse names that a version cannot know. The message never holds the name.

    Args:
        user_ids: Texts.
        fingerprint: Of the key of the version's pseudonyms; empty where users are known by their ids.

    Raises:
        RequestError: A raw id, or a pseudonym of another key, where pseudonyms are known.
    """
    if not fingerprint:
        return
    for user_id in user_ids:
        found = PSEUDONYM.fullmatch(user_id)
        if found is None and not user_id.startswith(NO_USER):
            raise RequestError(
                f"this model knows users by pseudonyms of the key {fingerprint}, and user_id is none: "
                "give the client that key (LOREFUSE_PRIVACY_KEY, or Client(privacy_key=...))"
            )
        if found is not None and found[1] != fingerprint:
            raise RequestError(f"user_id is a pseudonym of the key {found[1]}; this model knows those of {fingerprint}")


def check_strangers(user_ids, found, fingerprint):
    """Refuse pseudonyms that nobody has where users are known by their ids: somebody hashes who should not.

    Args:
        user_ids: Texts.
        found: What the store knows of each; empty for somebody unknown.
        fingerprint: As for `check_names`.

    Raises:
        RequestError: There is one.
    """
    if fingerprint:
        return
    for user_id, features in zip(user_ids, found, strict=True):
        if not features and PSEUDONYM.fullmatch(user_id):
            raise RequestError(
                "this model knows users by their own ids, and user_id is a pseudonym: "
                "unset LOREFUSE_PRIVACY_KEY, or make the client with privacy_key=''"
            )
