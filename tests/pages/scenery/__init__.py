"""What each page takes for granted, one module a page; ``tests.pages.__main__`` reads them."""
