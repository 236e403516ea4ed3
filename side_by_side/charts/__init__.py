"""The report's pictures: SVG that stands in the page, each drawn for a wide screen and for a phone."""
