"""From the folders that runs leave to one page: `runs` reads, `figures` draws, `page` writes."""
