"""Half-finished folders of earlier versions, which the present code must read or resume.

`tables/` was written by commit 7d24609, whose agents and ids have changed since: it is read. Its
`out.zip` holds the folder, and the other files hold what that commit printed (COLUMNS=200).

`resumable/` was made with `python -m tests.old_folders.make` and is resumed. Its agent and its
user belong to the tests, so that new prompts of real agents leave its ids as they are.

Both runs were killed with SIGKILL after their first committed bundle. If a change makes one of
these tests fail, the folders of users are affected too. Make a new folder only if that is intended
and the changelog says so. Words below a table may change: edit the files, but no figure in them.
"""
