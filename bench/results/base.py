"""The base of all models of stored records."""

from pydantic import BaseModel, ConfigDict


class StoredModel(BaseModel):
    """A part of a stored record: immutable, without unknown keys, and no number in it is NaN or infinite."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        defer_build=True,
        allow_inf_nan=False,
        ser_json_inf_nan="strings",
    )
