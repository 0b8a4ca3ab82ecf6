"""Feature services: what training joins point in time, and what serving reads online."""

from feast import FeatureService
from rec_views import feature_views

training = FeatureService(
    name="training",
    features=[feature_views[name] for name in ("user_stats", "user_interest", "item_stats") if name in feature_views],
    description="Everything of a row that changes with time",
)
serving_user = FeatureService(
    name="serving_user",
    features=[view for name, view in feature_views.items() if name.startswith("user_")],
    description="Everything serving reads about a user",
)
