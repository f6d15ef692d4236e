"""A plugin whose import fails, as one does that was built for another version of its SDK."""

raise RuntimeError("the SDK is too old")
