### Tutti i testi di llmquota in italiano.
###
### Un avviso è un messaggio: il valore è il testo, gli attributi sono il titolo e fino a tre azioni.
### $nome è un valore grezzo con cui scegliere; $nome-text è lo stesso valore scritto per chi legge.

## Come si scrivono numeri, denaro, orari e durate

number-group = { "." }
number-decimal = { "," }
number-none = { "—" }
number-usd = { $number }{ "\u00A0" }$
number-percent = { $number }%
time = { $day } { $month ->
    [1] gennaio
    [2] febbraio
    [3] marzo
    [4] aprile
    [5] maggio
    [6] giugno
    [7] luglio
    [8] agosto
    [9] settembre
    [10] ottobre
    [11] novembre
   *[12] dicembre
} { $year }, { $clock } UTC
seconds = { $count-text } { $count ->
    [one] secondo
   *[other] secondi
}
minutes = { $count-text } { $count ->
    [one] minuto
   *[other] minuti
}
hours = { $count-text } { $count ->
    [one] ora
   *[other] ore
}
days = { $count-text } { $count ->
    [one] giorno
   *[other] giorni
}
two-units = { $first } e { $second }

## Parti comuni a più avvisi

# Di chi è il limite.
subject = { $scope ->
    [goal] L’obiettivo «{ $account }»
    [task] L’attività «{ $account }»
    [model] Il modello «{ $account }», nell’uso di questo workspace,
    [user] L’utente «{ $account }»
    [credential] La credenziale «{ $account }» del provider, condivisa da tutti i workspace,
    [provider_model] Il modello «{ $account }» del provider, condiviso da tutti i workspace,
    [limiter] Il limitatore «{ $account }»
   *[workspace] Questo workspace
}
# Il limite: quanto, di che cosa, in quanto tempo.
ceiling = { $limit ->
    [requests_per_minute] { $cap-text } { $cap ->
        [one] richiesta
       *[other] richieste
    } al minuto
    [requests_per_hour] { $cap-text } { $cap ->
        [one] richiesta
       *[other] richieste
    } all’ora
    [requests_per_day] { $cap-text } { $cap ->
        [one] richiesta
       *[other] richieste
    } al giorno
    [tokens_per_minute] { $cap-text } token al minuto
    [tokens_per_day] { $cap-text } token al giorno
    [budget_usd_per_day] { $cap-text } al giorno
    [budget_usd_per_month] { $cap-text } al mese
    [max_concurrent] { $cap-text } { $cap ->
        [one] chiamata alla volta
       *[other] chiamate contemporanee
    }
   *[max_burst] { $cap-text } { $cap ->
        [one] richiesta
       *[other] richieste
    } al secondo
}
# Quanto se n’è andato.
share = { $limit ->
    [max_concurrent] { subject } ha in corso { $taken-text } su { ceiling }
   *[other] { subject } ha usato { $taken-text } su { ceiling }
} ({ $percent-text }){ $held ->
    [0] { "" }
   *[other] , di cui { $held-text } in sospeso per chiamate aperte
}
asked = { $limit ->
    [tokens_per_minute] { $asked-text } token
    [tokens_per_day] { $asked-text } token
    [budget_usd_per_day] { $asked-text }
    [budget_usd_per_month] { $asked-text }
    [max_concurrent] { $asked-text } { $asked ->
        [one] chiamata
       *[other] chiamate
    }
   *[other] { $asked-text } { $asked ->
        [one] richiesta
       *[other] richieste
    }
}
more = { $more ->
    [0] { "" }
    [one] { " " }C’è { $more-text } altro limite d’ostacolo.
   *[other] { " " }Ci sono altri { $more-text } limiti d’ostacolo.
}
retry = { $retry ->
    [at] Riprova tra { $wait-text } ({ $at-text }).
    [call-ends] Riprova quando una chiamata aperta è terminata.
    [blocked] Il limite è 0: non passa nulla finché non viene alzato.
   *[later] Riprova più tardi.
}
action-retry = { $retry ->
    [at] Attendi { $wait-text } prima di riprovare
    [call-ends] Attendi che termini una chiamata aperta
    [blocked] Chiedi all’amministratore di alzare il limite
   *[later] Attendi prima di riprovare
}

## Lo stato di un workspace

status-normal = { "" }
    .title = { "" }
status-near = { share }. { $mode ->
    [observe] Questo limite è solo osservato: nessuna chiamata viene rifiutata.
   *[enforce] Quando sarà pieno, le chiamate verranno rifiutate.
}
    .title = Avviso sulla quota API
    .action-1 = Segui i consumi in tempo reale
    .action-2 = Riduci o rimanda il lavoro che fa molte chiamate API
    .action-3 = Chiedi all’amministratore un limite più alto
status-critical = { share }. Resta poco o nulla. { $mode ->
    [observe] Questo limite è solo osservato: nessuna chiamata viene rifiutata.
   *[enforce] Quando sarà pieno, le chiamate verranno rifiutate.
}
    .title = Avviso sulla quota API
    .action-1 = Rimanda il lavoro che può aspettare
    .action-2 = Guarda quali obiettivi e attività consumano di più
    .action-3 = Chiedi all’amministratore un limite più alto
status-rate-limited = { share }. { retry }
    .title = Limite di frequenza raggiunto
    .action-1 = { action-retry }
    .action-2 = Fai meno chiamate API contemporanee
    .action-3 = Chiedi all’amministratore un limite più alto
status-rate-limited-by-provider = Il provider ha chiesto di rallentare ({ $cause }). { retry }
    .title = Limite di frequenza raggiunto
    .action-1 = { action-retry }
    .action-2 = Fai meno chiamate API contemporanee
    .action-3 = Controlla i limiti del piano nella dashboard del provider
status-quota-exceeded = { share }. { retry }
    .title = Quota esaurita
    .action-1 = { action-retry }
    .action-2 = Guarda quali obiettivi e attività hanno consumato di più
    .action-3 = Chiedi all’amministratore un limite più alto
status-quota-exceeded-by-provider = Il provider dice che la propria quota è esaurita ({ $cause }). { retry }
    .title = Quota esaurita
    .action-1 = Controlla piano e fatturazione nella dashboard del provider
    .action-2 = { action-retry }
    .action-3 = Contatta l’assistenza se il problema persiste
status-degraded = Al momento il provider fallisce troppo spesso ({ $cause }), perciò le chiamate sono trattenute. { retry }
    .title = Servizio ridotto
    .action-1 = { action-retry }
    .action-2 = Prosegui con il lavoro che non richiede chiamate API
    .action-3 = Controlla la pagina di stato del provider

## Testi brevi di /check

check-normal = Tutto funziona. Le richieste API procedono normalmente.
check-warning = I consumi API si avvicinano a un limite. Presto le richieste potrebbero essere rifiutate.
    .action-1 = Controlla i consumi
    .action-2 = Valuta di ridurre le chiamate API
check-rate-limited = Limite di frequenza raggiunto. { retry }
    .action-1 = { action-retry }
    .action-2 = Riduci la frequenza delle richieste
check-quota-exceeded = Quota esaurita. { retry }
    .action-1 = Passa a un piano superiore o alza il limite
    .action-2 = { action-retry }
check-degraded = Al momento il provider fallisce troppo spesso. Alcune chiamate sono trattenute.

## La risposta a una chiamata

allowed = { "" }
    .title = { "" }
refused-rate = { share }; questa chiamata chiede { asked }. { retry }{ more }
    .title = Limite di frequenza raggiunto
    .action-1 = { action-retry }
    .action-2 = Fai meno chiamate API contemporanee
refused-quota = { share }; questa chiamata chiede { asked }. { retry }{ more }
    .title = Quota esaurita
    .action-1 = { action-retry }
    .action-2 = Chiedi all’amministratore un limite più alto
refused-never-fits = Questa chiamata chiede { asked }, più di quanto il limite possa mai dare. { subject } può usare { ceiling }.{ more }
    .title = Chiamata troppo grande
    .action-1 = Dividi la chiamata in parti più piccole
    .action-2 = Chiedi all’amministratore un limite più alto
refused-provider-quota = Il provider dice che la propria quota è esaurita ({ $cause }). { retry }
    .title = Quota esaurita
    .action-1 = Controlla piano e fatturazione nella dashboard del provider
    .action-2 = { action-retry }
refused-provider-rate = Il provider ha chiesto di rallentare ({ $cause }). { retry }
    .title = Limite di frequenza raggiunto
    .action-1 = { action-retry }
    .action-2 = Fai meno chiamate API contemporanee
refused-provider-failing = Al momento il provider fallisce troppo spesso ({ $cause }), perciò questa chiamata non è partita. { retry }
    .title = Servizio ridotto
    .action-1 = { action-retry }
    .action-2 = Controlla la pagina di stato del provider
refused-provider-other = Le chiamate al provider sono trattenute ({ $cause }). { retry }
    .title = Servizio ridotto
    .action-1 = { action-retry }
    .action-2 = Controlla la pagina di stato del provider
refused-queue = { $ahead ->
    [one] C’è { $ahead-text } altra chiamata che aspetta lo stesso limite ed è arrivata prima.
   *[other] Ci sono altre { $ahead-text } chiamate che aspettano lo stesso limite e sono arrivate prima.
} { retry }
    .title = In coda
    .action-1 = { action-retry }
refused-store-busy = L’archivio delle quote non ha risposto in tempo, perciò questa chiamata non è partita.
    .title = Archivio delle quote occupato
    .action-1 = Riprova tra un momento
refused-store-full = L’archivio delle quote non ha spazio per un’altra voce, perciò questa chiamata non è partita.
    .title = Archivio delle quote pieno
    .action-1 = Chiedi all’amministratore di dare più spazio all’archivio
