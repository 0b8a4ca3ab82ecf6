"""Entities: who a feature is about."""

from feast import Entity, ValueType

user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING, description="Who is recommended to")
item = Entity(name="item", join_keys=["item_id"], value_type=ValueType.STRING, description="What is recommended")
