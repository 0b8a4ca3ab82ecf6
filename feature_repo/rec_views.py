"""Feature views: made from what the feature data folder says it holds, so that a user's own columns need no code."""

from datetime import timedelta

from feast import FeatureView, Field
from feast.types import Array, Float32, String
from rec_entities import item, user
from rec_sources import sources, views

types = {"float": Float32, "string": String, "floats": Array(Float32), "strings": Array(String)}
entities = {"user": user, "item": item}

feature_views = {
    name: FeatureView(
        name=name,
        entities=[entities[view["entity"]]],
        schema=[Field(name=field, dtype=types[kind]) for field, kind in view["fields"].items()],
        source=sources[name],
        ttl=timedelta(0),  # a snapshot holds until the next one
        online=True,
    )
    for name, view in views.items()
}
# Feast looks for views among a module's names, not inside its dicts.
globals().update(feature_views)
