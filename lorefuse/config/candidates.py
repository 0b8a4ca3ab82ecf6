"""Section of what is served: which items are candidates for a user, and how they are put in order."""

from __future__ import annotations

from typing import Annotated, Literal, Self, get_args

from pydantic import AfterValidator, Field, model_validator

from lorefuse.config.base import Section, one_of

CONTENT = "_content"
NamedView = Literal[
    "popularity",
    "item_knn",
    "user_knn",
    "ease",
    "content",
    "graph_content",
    "asked",
    "two_tower",
    "light_gcn",
    "sasrec",
]
"""What the candidate stage may look at the catalogue by; see `lists.readers` and `lists.tables`."""
ViewName = Annotated[str, AfterValidator(one_of(get_args(NamedView), CONTENT))]
"""Or one knowledge block by itself, e.g. ``image_content``."""


class CandidatesConfig(Section):
    """Two stages: views of the whole catalogue find candidates, the ranker puts them in order; each may be left out."""

    mode: Literal["auto", "blend", "none"] = Field(
        "auto",
        description="blend: candidates, then the ranker; none: the ranker orders the whole catalogue, which suits rows "
        "that were drawn from it; auto: blend, where there are likes to learn it from and serving.retrieval wants no "
        "index.",
    )
    views: tuple[ViewName, ...] = Field(
        ("ease", "item_knn", "content", "asked"),
        description="Recommenders that look at the catalogue: EASE, who took both (item_knn), who took the same "
        "(user_knn), all knowledge of the items (content), one block of it alone (graph_content, text_content), what "
        "the user asked just now (asked, where data.source.context_text holds it), and those that are trained for "
        "minutes by their settings in `retrieval`: two_tower, light_gcn, sasrec. Popularity is always part of the "
        "learned blend. Empty: popularity alone.",
    )
    weights: dict[ViewName, float] | None = Field(
        None,
        description="Weight of each view's z-scores; one view: that recommender in its own order, several: a hybrid. "
        "Each then reads the likes with the first of `half_lives`, and content is the cosine with their mean. "
        "null: a blend of all views, learned on validation users.",
    )
    ranker: Literal["auto", "list", "rows", "identity"] = Field(
        "auto",
        description="What orders the candidates. list: a ranker of the model's family that learned from lists of "
        "candidates, beside the views; rows: the one that learned from rows, beside the views; identity: the views "
        "alone; auto: list, where the lists of validation users are better for it, beyond the interval.",
    )
    num_lessons: int = Field(
        3000, ge=50, description="Lists of the train part, at earlier moments of users, that a ranker learns from."
    )
    num_candidates: int = Field(200, ge=1, le=20_000, description="Items that the ranker scores for a user.")
    half_lives: tuple[float, ...] = Field(
        (2.0, 20.0), min_length=1, max_length=4, description="After how many later items a past one counts half."
    )
    history_length: int = Field(50, ge=1, le=1000, description="Most past items that are read for a user.")
    num_neighbours: int = Field(
        300, ge=1, description="Entries that a table keeps for each item, and nearest users of user_knn."
    )
    shrinkage: float = Field(20.0, ge=0, description="Pulls similarities of items that few took together to 0.")
    ease_l2: float | None = Field(
        None, gt=0, description="λ of EASE; null: six times the mean number of train rows of an item."
    )
    max_ease_items: int = Field(
        15_000, ge=0, le=30_000, description="Larger catalogues do without EASE, whose cost is cubic in the items."
    )
    new_item_neighbours: int = Field(
        5, ge=0, description="Nearest known items whose place in a view an item without train rows takes; 0: none."
    )
    new_item_cost: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Share of the validation NDCG of known items that may be given up to find new ones.",
    )
    l2: float = Field(1e-3, ge=0, description="Penalty of the blend's weights.")
    num_fit_users: int = Field(3000, ge=10, description="Validation users that the blend is learned from.")
    num_judged_users: int = Field(
        20_000, ge=10, description="Test users whose lists are judged; fewer where the catalogue is past 50,000 items."
    )

    @model_validator(mode="after")
    def _weights_fit_the_views(self) -> Self:
        if len(set(self.views)) < len(self.views):
            raise ValueError(f"views must name each view once, got {', '.join(self.views)}")
        if self.weights is not None and set(self.weights) != set(self.views):
            raise ValueError(f"weights must name the views, {', '.join(self.views)}; got {', '.join(self.weights)}")
        if self.weights is not None and not any(self.weights.values()):
            raise ValueError("weights must not all be 0")
        return self
