"""Words that stand in lists of persons and before speeches without being names of persons, in lower case."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ROLES = _words(
    """
    a abbess abbot actor aedile aediles afterwards all also amazons ambassador ambassadors an ancient and another
    antiates apothecary apparition apparitions archbishop archduke armourer artificer athenian attendant
    attendants bandit banditti bastard bawd beadle bellows-mender bench bishop boatswain bohemian both boy british
    brother brothers butcher captain captains cardinal carpenter carrier carriers cham chamberlain chancellor
    chief child children chorus citizen citizens clerk clown clowns commoners commons conjurer conspirator
    conspirators constable count countess country courtezan courtier crier curate dancer danes daughter daughters
    dauphin de del deputy dirge doctor don door-keeper drawer duchess duke dumb dutch dutchman earl egyptian eight
    eighth elder emperor english english-herald epilogue executioner fairies fairy falconers father fiend fifth
    first fisherman fishermen florentine flourish followers fool forester foresters fourth french frenchman friar
    friend from gaoler gaolers garden gardener garter general gentleman gentlemen gentlewoman ghost ghosts girl
    goldsmith goth goths governor grave-digger grecian greek groom guard guards gunner haberdasher headborough
    herald heralds his host hostess huntsman huntsmen iii induction italian iv jailer jew jeweller joiner judge
    justice justices keeper keepers king king-at-arms kinsmen knight knights la ladies lady lancaster-herald
    lawyer le legate lictor lieutenant lion lord lords madam magnificoes maid maids man mariner mariners marquess
    marquis marshal marshall master master's-mate master-gunner mate mayor men merchant mess messenger messengers
    mistress monsieur moon moor mother mr mrs murderer murderers musician musicians myrmidon neighbour nephew
    nobleman north northern nun nurse nymphs of officer officers old one or orator other others outlaw outlaws
    page pages painter pandar patrician patricians pedant people persons petitioner philippi physician pirate
    player players plebeians poet porter post prentice priest prince princes princess prologue provost pursuivant
    queen reapers rebel roman romans rumour sailor saint sardis schoolmaster scotch scottish scout scribe
    scrivener sea second secretaries secretary senate senator senators senior sentinel sentry sergeant serv
    servant servants serving serving-man serving-men servingmen seventh several sexton shepherd shepherdesses sher
    sheriff ship sicilian signior sir sisters sixth smith soldier soldiers some son song sons soothsayer spanish
    speak speaks spirit spirits spring steward stranger strangers suitors surveyor tailor the thief thieves third
    three time tinker town townsman traveller travellers tribune tribunes trojan tutor two tyrian usher v vi vicar
    vii viii vint vintner voice volsce volscian volscians wall war warder warders watch watchman watchmen weaver
    welsh welshmen wench widow wife winter witch witches within woman women workman workmen xi yeoman young
    younger
    """
)
"""Ranks, kinship, trades, peoples and other words that say what somebody is."""

PLACES = _words(
    """
    alexandria america angiers anjou antioch antium aragon arden arragon athens auvergne belmont bohemia bordeaux
    bretagne bristol britain burgundians calais carlisle castile corinth corioli cyprus denmark dover dunsinane
    dunstable eastcheap egypt elsinore england ephesus europe florence france gascony germany greece harfleur
    hereford illyria ireland italy kent-street kimbolton libya london lorraine mantua messina milan misenum
    mytilene naples navarre norway orleans oxfordshire padua paphos paris-garden parthia pentapolis phrygia pisa
    poland pomfret rhodes rome rouen rousillon sardinia scotland sicilia sicily spain syracuse syria tarsus troy
    tunis tuscany tyre venice verona vienna wales westminster windsor
    """
)
"""Countries and towns, which also stand for their kings and dukes."""
