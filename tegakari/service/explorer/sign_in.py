"""Pages that set a cookie: signing in with an API key, signing out, and the choice of a language."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from litestar import MediaType, Request, Response, get, post
from litestar.datastructures import Cookie
from litestar.enums import RequestEncodingType
from litestar.params import Body, QueryParameter
from litestar.response import Redirect

from tegakari.schemas.errors import NoKeyError
from tegakari.service.explorer import language as languages
from tegakari.service.explorer.page import refusal, sign_in_form
from tegakari.service.http.cookies import KEY_COOKIE
from tegakari.service.http.operations import FORM, PUBLIC, REFUSAL

NextPage = Annotated[str, QueryParameter(name="next", description="address of the page that is shown afterwards")]
LanguageName = Annotated[languages.Language, QueryParameter(name="to", description="language of the pages")]

YEAR = 365 * 86_400


class SignInForm(msgspec.Struct):
    """What the form sends."""

    key: str
    next: str = "/"


@get("/sign-in", include_in_schema=False, media_type=MediaType.HTML, opt={**PUBLIC, REFUSAL: refusal})
async def sign_in_page(request: Request[Any, Any, Any], next_page: NextPage = "/") -> Response[str]:
    """A form for an API key."""
    return sign_in_form(request, own_address(next_page), status=200)


@post("/sign-in", include_in_schema=False, media_type=MediaType.HTML, opt={**PUBLIC, FORM: True, REFUSAL: refusal})
async def sign_in(
    request: Request[Any, Any, Any],
    data: Annotated[SignInForm, Body(media_type=RequestEncodingType.URL_ENCODED)],
) -> Response[Any]:
    """Keep the key in a cookie, if the server knows it."""
    gate = request.app.gate  # pyright: ignore[reportAttributeAccessIssue] - of `Api`
    try:
        gate.check_form(request.scope, data.key)
    except NoKeyError as error:
        return sign_in_form(request, own_address(data.next), error)
    response = Redirect(own_address(data.next), status_code=303)
    response.set_cookie(_cookie(KEY_COOKIE, data.key.strip(), request, httponly=True))
    return response


@post("/sign-out", include_in_schema=False, opt={FORM: True, "scope": "read", REFUSAL: refusal})
async def sign_out(request: Request[Any, Any, Any]) -> Response[Any]:
    """Remove the key from the browser."""
    response = Redirect("/sign-in", status_code=303)
    response.delete_cookie(KEY_COOKIE)
    return response


@get("/language", include_in_schema=False, opt=PUBLIC)
async def set_language(request: Request[Any, Any, Any], to: LanguageName, next_page: NextPage = "/") -> Response[Any]:
    """Keep the language in a cookie."""
    response = Redirect(own_address(next_page), status_code=303)
    response.set_cookie(_cookie(languages.COOKIE, to, request, httponly=True))
    return response


def own_address(address: str) -> str:
    """An address of this server, without its name; the start for everything else, so that no form leads elsewhere."""
    parts = urlsplit(address)
    own = address.startswith("/") and not address.startswith(("//", "/\\")) and not parts.netloc and not parts.scheme
    return address if own and address.isprintable() else "/"


def _cookie(name: str, value: str, request: Request[Any, Any, Any], *, httponly: bool) -> Cookie:
    secure = request.url.scheme == "https"
    return Cookie(name, value=value, path="/", max_age=YEAR, secure=secure, httponly=httponly, samesite="strict")


HANDLERS = (sign_in_page, sign_in, sign_out, set_language)
