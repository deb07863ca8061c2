"""The exposure service's HTTP routes."""

from litestar import Response, get, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.types import ControllerRouterHandler

from exposure.paging import PAGE, page
from exposure.service import ExposureService
from web.access import ASKER
from web.app import check_path, problems
from web.paging import link
from web.roles import Role, only
from wire.errors import Refusal
from wire.fields import Id
from wire.orders import Fill
from wire.reservations import Exposure, Reservation, ReservationAnswer, ReservationRequest

_BODY = (Refusal.BAD_REQUEST, Refusal.INVALID_FIELD, Refusal.TOO_LARGE)
_WRITES = (Refusal.OVERLOADED, Refusal.UNAVAILABLE, Refusal.OUTCOME_UNKNOWN)


def routes(service: ExposureService) -> list[ControllerRouterHandler]:
    """Return the handlers for reservations and usage."""

    @post(
        "/reservations",
        summary="Reserve exposure for one quote",
        description="Each side gets the requested quantity, or what is free if that is less. A request with the same "
        "`quote_id` and quantities gets the first answer again. Status 201 means that a reservation was created. "
        "A quote must use it before its `expires_at`, and before the same client makes a new one for the symbol.",
        tags=["exposure"],
        responses={
            200: ResponseSpec(ReservationAnswer, description="Reserved by an earlier request, or rejected"),
            **problems(*_BODY, Refusal.UNKNOWN_SYMBOL, Refusal.QUOTE_ID_REUSED, Refusal.SUPERSEDED, *_WRITES),
        },
        opt=only(Role.MAKER),
    )
    async def reserve(data: JSONBody[ReservationRequest]) -> Response[ReservationAnswer]:
        decision = await service.reserve(data, f"token {ASKER.get()}")
        return Response(decision.answer, status_code=201 if decision.write is not None else 200)

    @get(
        "/reservations/{reservation_id:str}",
        summary="A reservation and the lots it holds now",
        tags=["exposure"],
        responses=problems(Refusal.INVALID_FIELD, Refusal.NOT_FOUND, Refusal.UNAVAILABLE),
    )
    async def get_reservation(reservation_id: FromPath[str]) -> Reservation:
        known = check_path(reservation_id, Id, "reservation_id")
        await service.confirm()
        return service.reservation(known)

    @post(
        "/reservations/{reservation_id:str}/release",
        status_code=200,
        summary="Release a reservation that backs no quote",
        description="A reservation that has ended is returned unchanged. One that is activated cannot be released: "
        "withdraw its quote.",
        tags=["exposure"],
        responses=problems(Refusal.INVALID_FIELD, Refusal.NOT_FOUND, Refusal.RESERVATION_ACTIVATED, *_WRITES),
        opt=only(Role.MAKER),
    )
    async def release(reservation_id: FromPath[str]) -> Reservation:
        return await service.release(check_path(reservation_id, Id, "reservation_id"))

    @post(
        "/reservations/{reservation_id:str}/apply-fill",
        status_code=200,
        summary="Apply a fill to a reservation, once",
        description="Fills in the market log are applied automatically.",
        tags=["exposure"],
        responses=problems(*_BODY, Refusal.NOT_FOUND, Refusal.FILL_CONTRADICTS, Refusal.FILL_NOT_RECORDED, *_WRITES),
        opt=only(Role.EXCHANGE),
    )
    async def apply_fill(reservation_id: FromPath[str], data: JSONBody[Fill]) -> Reservation:
        return await service.apply_fill(check_path(reservation_id, Id, "reservation_id"), data)

    @get(
        "/exposure",
        summary="The global limit, its usage and the live reservations",
        description=f"At most {PAGE} reservations, in the order of their grants. If there are more, the header "
        '`Link` names the next page (`rel="next"`), including its `after`.',
        tags=["exposure"],
        responses=problems(Refusal.INVALID_FIELD, Refusal.UNAVAILABLE),
    )
    async def get_exposure(after: FromQuery[str | None] = None) -> Response[Exposure]:
        await service.confirm()
        shown, following = page(service.exposure(), after)
        return Response(shown, headers=link("/exposure", following) if following else {})

    return [reserve, get_reservation, release, apply_fill, get_exposure]
