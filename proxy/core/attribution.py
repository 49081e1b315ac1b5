"""Attribution: what a call is for, once the rules of its key and group are applied to what the request says."""

from __future__ import annotations

from dataclasses import replace

from proxy.core.call import Call
from proxy.core.caller import Caller

OTHER_OPERATION = "other"
"""What an operation becomes that the group does not list."""


def attribute(call: Call, caller: Caller) -> Call:
    """The call with its key's defaults where the request said nothing. The same object when there is nothing to apply."""
    operation = call.operation
    if operation is None:
        operation = caller.default_operation
    allowed = caller.allowed_operations
    if operation is not None and allowed is not None and operation not in allowed:
        operation = OTHER_OPERATION
    if not caller.default_tags:
        return call if operation is call.operation else replace(call, operation=operation)
    return replace(call, operation=operation, tags={**dict(caller.default_tags), **call.tags})
