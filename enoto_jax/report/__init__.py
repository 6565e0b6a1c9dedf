"""Turn runs' folders into one page: `runs` reads them, `figures` draws, `page` writes."""
