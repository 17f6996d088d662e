"""One account activity that is no fill, as REST shows it -> the content of an `account_activity` record.
Pure.

Every type becomes a record, unknown ones too. What cannot be one raises RecordError with the reason.
"""

from __future__ import annotations

from datetime import date, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

from producers.accounts.updates import Content
from schemas import activity as ids
from schemas import trading_values as values
from schemas.activities import EXECUTED
from schemas.event_id import activity_id
from schemas.trading_values import Json
from tidewire.clock import NS_PER_SECOND
from tidewire.errors import RecordError

_NEW_YORK = ZoneInfo("America/New_York")
_FIELDS = frozenset(
    {
        "id", "account_id", "activity_type", "activity_sub_type", "activity_subtype", "date", "created_at",
        "symbol", "qty", "price", "net_amount", "per_share_amount", "group_id", "status", "previous_id",
        "description",
    }
)  # fmt: skip


def content(account: str, activity: Json) -> Content:
    """The record of one activity, without who received it and when.

    Raises:
        RecordError: it says too little, or what the schema cannot hold.
    """
    named, of_type = values.identity(activity, "id"), values.identity(activity, "activity_type")
    created, day = values.time(activity, "created_at"), _day(activity)
    status = values.text(activity, "status")
    return {
        "account": account,
        "activity_id": named,
        "activity_type": of_type,
        "subtype": values.text(activity, "activity_sub_type") or values.text(activity, "activity_subtype"),
        "ts": _moment(named, created, day),
        "date": None if day is None else day.isoformat(),
        "created_ts": created,
        "symbol": _symbol(activity, of_type),
        "quantity": values.number(activity, "qty"),
        "price": values.loose(activity, "price"),
        "net_amount": values.number(activity, "net_amount"),
        "per_share_amount": values.loose(activity, "per_share_amount"),
        "group_id": values.text(activity, "group_id") or None,
        "status": status,
        "previous_id": values.text(activity, "previous_id") or None,
        "description": values.text(activity, "description") or None,
        "extra": values.leftovers(values.without(activity, _FIELDS)),
        "event_id": activity_id(account, named, "" if (status or "") in EXECUTED else str(status)),
    }


def _symbol(activity: Json, of_type: str) -> str | None:
    # Fees of crypto name the pair as positions do, without its slash and without a class.
    known: dict[str, Any] = {"asset_class": "crypto"} if of_type == "CFEE" else {}
    return values.symbol({**activity, **known}) or None


def _day(activity: Json) -> date | None:
    text = values.text(activity, "date")
    if not text:
        return None
    try:
        return date.fromisoformat(text[:10])
    except ValueError:
        raise RecordError(f"date is not a day: {text!r:.100}") from None


def _moment(named: str, created: int | None, day: date | None) -> int:
    try:
        return ids.moment(named)
    except ValueError as error:
        if day is not None:
            return int(datetime.combine(day, time(), _NEW_YORK).timestamp()) * NS_PER_SECOND
        if created is not None:
            return created
        raise RecordError(str(error)) from None
