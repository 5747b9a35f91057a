"""Work behind the routes: the model queue, jobs, SQL processes."""
