"""The dashboard: one page and its modules, served from the package. Its data are the admin API's."""
