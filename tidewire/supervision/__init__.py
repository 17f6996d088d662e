"""Services as child processes: started, kept alive, ended in order, and none left behind."""
