"""`ldm-tutorial grade`: a class's notebooks, each run apart from everything else, and a table of points.

    hand_ins.py   whose notebook is which file
    warden.py     a process that forks one child for each notebook, watches it, and kills it with all that it has started
    sandbox.py    what the child may not do: write outside its folder, use the network, take more memory than it is given
    examiner.py   in the child: run the cells that the exercises need, then the checks
    table.py      points, grades.csv and the reasons
    progress.py   `ldm-tutorial progress`: what the checks last said in a learner's own notebooks

What is not defended is in `docs/grading.md`: an answer and the check that examines it run in one Python process.
"""
