"""Bring the serving code of this Lorefuse to a version that answers with that of an earlier one.

Only when somebody asks for the version again: an upgrade alone changes nothing that answers.
"""

from __future__ import annotations

from lorefuse.core.errors import ArtifactError, DeployError, UnreachableError
from lorefuse.deploy.control import Control
from lorefuse.deploy.desired import Desired
from lorefuse.deploy.rollout import Rollout
from lorefuse.export.templates import templates_digest


def renew(rollout: Rollout, desired: Desired) -> str:
    """Replace the code of the version that answers, beside it; where that does not work, it goes on as it was.

    Args:
        rollout: Of that version.
        desired: The same version, with its files.

    Returns:
        What came of it, in words; empty where there was nothing to do.

    Raises:
        UnreachableError: The server is away: to be tried again.
        UsageError: There are no `serving/` templates in the project.
    """
    has_new_code = rollout.repository.answer(rollout.version).get("code_digest") == templates_digest()
    if has_new_code or desired.bundle_path is None or desired.store_path is None:
        return ""
    try:
        rollout.repository.add(desired.bundle_path, desired.store_path, rollout.version)
        rollout.replace()
    except UnreachableError:
        raise
    except (ArtifactError, DeployError) as error:
        if not Control(rollout.server.url).is_live():
            raise  # the server's fault, not the code's
        return f"it goes on with the serving code it had: the new one was refused: {str(error).splitlines()[0]}"
    return "it answers with the serving code of this Lorefuse"
