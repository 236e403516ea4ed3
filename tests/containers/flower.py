"""Flower's pages in a browser, as who watches the work reads them."""

from dataclasses import dataclass
from typing import Any

from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from tests.waiting import wait_until


@dataclass
class Flower:
    """Flower at ``address``, a host and its port, read in ``browser``."""

    browser: Chrome
    address: str

    def log_in(self, user: str, password: str) -> None:
        """Answer the browser's question for a name and a password."""
        self.browser.get(f"http://{user}:{password}@{self.address}/workers")

    def refused(self, page: str) -> bool:
        """Whether the browser gets no ``page``, for Flower does not know who asks."""
        untyped: Any = self.browser
        untyped.get_log("browser")  # what is in it until now is taken out
        self.browser.get(f"http://{self.address}/{page}")
        return any("status of 401" in entry["message"] for entry in untyped.get_log("browser"))

    def workers(self) -> dict[str, str]:
        """Each worker's state, by its name without its host."""
        self.browser.get(f"http://{self.address}/workers")
        rows = wait_until(lambda: self._rows("workers-table"), "Flower to list the workers")
        return {name.partition("@")[0]: state for name, state, *_ in rows}

    def tasks(self, search: str, count: int) -> list[dict[str, str]]:
        """The tasks that Flower finds, once they are ``count``: each column's text by the column's name."""
        self.browser.get(f"http://{self.address}/tasks")
        box = wait_until(
            lambda: self.browser.find_elements(By.CSS_SELECTOR, "#tasks-table_filter input"), "the search box"
        )[0]
        box.clear()
        box.send_keys(search)
        found = f"of {count} tasks (filtered"
        wait_until(
            lambda: found in self.browser.find_element(By.ID, "tasks-table_info").text,
            f"Flower to find {count} tasks with {search}",
        )
        # DataTables has the heads in a table of their own, which stays when the other one is scrolled.
        heads = self.browser.find_elements(By.CSS_SELECTOR, ".dataTables_scrollHead th")
        columns = [str(head.get_attribute("data-column")) for head in heads]
        return [dict(zip(columns, row, strict=True)) for row in self._rows("tasks-table")]

    def cut_off(self, column: str) -> list[str]:
        """The cells of a column of the tasks that are not seen in full on a screen of 1280 pixels."""
        self.browser.set_window_size(1280, 900)
        heads = self.browser.find_elements(By.CSS_SELECTOR, ".dataTables_scrollHead th")
        place = [head.get_attribute("data-column") for head in heads].index(column) + 1
        cells = self.browser.find_elements(By.CSS_SELECTOR, f"#tasks-table tbody td:nth-child({place})")
        assert cells
        hidden = "return arguments[0].scrollWidth > arguments[0].clientWidth"
        beyond = "return arguments[0].getBoundingClientRect().right > window.innerWidth"
        return [
            cell.text
            for cell in cells
            if self.browser.execute_script(hidden, cell) or self.browser.execute_script(beyond, cell)
        ]

    def queues(self) -> set[str]:
        """The names of the queues on the broker's page."""
        self.browser.get(f"http://{self.address}/broker")
        return {row[0] for row in self._rows("queue-table")}

    def _rows(self, table: str) -> list[list[str]]:
        """The cells of each row of a table; none while it is empty or being drawn."""
        try:
            rows = self.browser.find_elements(By.CSS_SELECTOR, f"#{table} tbody tr")
            cells = [
                [cell.text.replace("\n", "") for cell in row.find_elements(By.TAG_NAME, "td")] for row in rows
            ]
        except StaleElementReferenceException:
            return []
        # An empty table has one row of one cell, which says so.
        return [row for row in cells if len(row) > 1]
