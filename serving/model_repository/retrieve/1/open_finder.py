"""Opens whatever finds the items of a version folder."""

import os


def open_finder(folder):
    """Return what a version folder holds: `Lists` or `retriever.Retriever`, which are asked alike.

    Raises:
        OPEN_ERRORS: A file is missing or not whole.
    """
    if os.path.exists(os.path.join(folder, "candidates.json")):
        from lists import Lists  # two_stage.py lies beside it in versions with views alone

        return Lists(folder)
    from retriever import Retriever  # faiss is not read into the memory of versions that do without

    return Retriever(folder)
