"""The pictures of the report: SVG inside the page. Each is drawn for a wide screen and for a phone."""
