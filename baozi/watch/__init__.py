"""``baozi watch``: a page that shows a running system, and the server of such pages.

:mod:`baozi.watch.feed` reads the sources while a page is open, :mod:`baozi.watch.site` is the server, and
:mod:`baozi.watch.sources` says what the operator's page shows. Only :mod:`baozi.watch.site` imports Starlette
and uvicorn, and only the commands that serve a page import it.
"""
