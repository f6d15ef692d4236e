"""The five kinds of `occopus.io/v1alpha1` as frozen pydantic models: the one source of the CRDs, the checks and the docs.

The models read leniently (what a newer version wrote beside our fields is kept, by merge patches) and are emitted strictly
by `controller.api.crd`. They hold no behaviour beyond small derivations of their own fields.
"""
