"""What all components share: the image from the environment, and nothing installed at run time."""

from __future__ import annotations

import functools

from kfp import dsl

from lorefuse.core.settings import settings

step = functools.partial(dsl.component, base_image=settings().image, packages_to_install=[], install_kfp_package=False)
"""Decorator of every component. The image is read at import: compile with LOREFUSE_IMAGE set for a cluster."""
